// The image with a box that is drawn by dragging, or typed into four fields; value: {image, size, box}.
const canvas = element.querySelector("canvas"), fields = [...element.querySelectorAll("input")];
const picture = new Image();
let drag = null;

const scale = () => (props.value && props.value.size ? canvas.width / props.value.size[0] : 1);

function draw() {
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (!props.value || !props.value.image) return;
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  const box = drag ? drag.box : props.value.box;
  if (!box) return;
  const [x1, y1, x2, y2] = box.map((side) => side * scale());
  context.fillStyle = "rgba(0, 0, 0, 0.35)";
  context.beginPath();
  context.rect(0, 0, canvas.width, canvas.height);
  context.rect(x1, y1, x2 - x1, y2 - y1);
  context.fill("evenodd");
  context.lineWidth = Math.max(2, canvas.width / 300);
  context.strokeStyle = "#ffb000";
  context.strokeRect(x1, y1, x2 - x1, y2 - y1);
}

function show() {
  const value = props.value;
  element.querySelector(".empty").hidden = Boolean(value && value.image);
  element.querySelector(".filled").hidden = !(value && value.image);
  fields.forEach((field, i) => { field.value = value && value.box ? Math.round(value.box[i]) : ""; });
  if (!value || !value.image) return;
  if (picture.src !== value.image) picture.src = value.image;
  else draw();
}

function choose(box) {
  props.value = { ...props.value, box };
  show();
  trigger("submit");
}

function place(event) {
  const seen = canvas.getBoundingClientRect(), [width, height] = props.value.size;
  const clamp = (part, size) => Math.min(size, Math.max(0, part * size));
  return [clamp((event.clientX - seen.left) / seen.width, width), clamp((event.clientY - seen.top) / seen.height, height)];
}

picture.onload = () => {
  // small images are enlarged: lines stay thin
  const { naturalWidth: width, naturalHeight: height } = picture, zoom = Math.max(1, 640 / Math.max(width, height));
  canvas.width = Math.round(zoom * width);
  canvas.height = Math.round(zoom * height);
  canvas.style.width = `min(100%, ${230 * width / height}px)`;
  draw();
};
canvas.addEventListener("pointerdown", (event) => {
  if (!props.value || !props.value.image) return;
  canvas.setPointerCapture(event.pointerId);
  const [x, y] = place(event);
  drag = { x, y, box: null };
});
canvas.addEventListener("pointermove", (event) => {
  if (!drag) return;
  const [x, y] = place(event);
  drag.box = [Math.min(x, drag.x), Math.min(y, drag.y), Math.max(x, drag.x), Math.max(y, drag.y)];
  draw();
});
const end = () => {
  const box = drag && drag.box;
  drag = null;
  // a click is no box
  if (box && box[2] - box[0] > 3 && box[3] - box[1] > 3) choose(box);
  else draw();
};
canvas.addEventListener("pointerup", end);
canvas.addEventListener("pointercancel", () => { drag = null; draw(); });
fields.forEach((field) => field.addEventListener("change", () => {
  const box = fields.map((one) => one.value === "" ? NaN : Number(one.value));
  if (box.every(Number.isFinite)) choose(box);
}));
watch("value", show);
show();
