// One object that is being annotated: what it is now, what it was, what is saved.

const PAUSE = 700; // milliseconds: steps of one kind that follow each other sooner are undone together

export class Work {
  // `opened` is what the server says of the object; `now` is {placement, box, cad}, box null while it follows the shape.
  constructor(opened, now) {
    this.opened = opened;
    this.version = opened.version;
    this.proposal = opened.proposal;
    this.now = now;
    this.saved = opened.placement === null ? null : now;
    this.before = [];
    this.after = [];
    this.step = { kind: null, time: 0 };
  }

  get dirty() {
    return this.now !== this.saved && (this.saved !== null || this.before.length > 0);
  }

  // Change it; changes of one kind in quick succession are one step. A kind of null is always a step of its own.
  change(next, kind = null, time = Date.now()) {
    const joined = kind !== null && kind === this.step.kind && time - this.step.time < PAUSE;
    if (!joined) this.before.push(this.now);
    this.step = { kind, time };
    this.now = next;
    this.after = [];
  }

  // The next change begins a new step.
  pause() {
    this.step = { kind: null, time: 0 };
  }

  undo() {
    if (this.before.length === 0) return;
    this.after.push(this.now);
    this.now = this.before.pop();
    this.pause();
  }

  redo() {
    if (this.after.length === 0) return;
    this.before.push(this.now);
    this.now = this.after.pop();
    this.pause();
  }

  // It was saved as it is now.
  settle(version) {
    this.version = version;
    this.saved = this.now;
    this.pause();
  }
}
