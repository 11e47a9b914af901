"""Make a data set from images and two tables: where each object is and how it stands, and how large a category is.

python examples/images_to_data_set.py table.csv sizes.csv data/mine

table.csv has one line for each image; paths are relative to the table, angles in degrees, the box in pixels:

    category,split,object,image,azimuth,elevation,theta,x1,y1,x2,y2
    mug,train,red,photos/IMG_0012.jpg,0,20,0,140,90,420,330

sizes.csv has one line for each category: the lengths of a box around it along x, y and z, in any unit:

    category,width,depth,height
    mug,0.9,1.3,1.0

data/mine/preview then shows the first images of each category with the box drawn over them: the green arrow must
point to where the front faces, the blue one up.
"""

from __future__ import annotations

import argparse
import csv
import math
import shutil
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image

from compnet3d import Camera, Mesh, Pose
from compnet3d.data import annotation_dict, write_annotation, write_list
from compnet3d.geometry import cuboid_mesh, fit_to_box, save_off
from compnet3d.reporting.overlays import draw_overlay

PREVIEWS = 4  # of each list


def main() -> None:
    """Copy the images; write annotations, lists and a box as CAD model of each category."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("sizes", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--focal", type=float, default=3000.0, help="the camera's focal length in pixels, if known")
    options = parser.parse_args()

    meshes = {row["category"]: box_mesh(row) for row in read_table(options.sizes)}
    lists: dict[tuple[str, str], list[str]] = {}
    objects: dict[str, list[str]] = {}  # of each category, in the order in which the table names them
    for row in read_table(options.table):
        category = row["category"]
        known = objects.setdefault(category, [])
        if row["object"] not in known:
            known.append(row["object"])
        names = lists.setdefault((category, row["split"]), [])
        # a name of this form tells which images show one object, so that calibration holds out whole objects
        name = f"{row['object']}_i{known.index(row['object']) + 1:02d}_v{len(names):03d}"
        names.append(name)
        image = options.table.parent / row["image"]
        with Image.open(image) as pixels:
            pose, camera = place(row, meshes[category], pixels.size, options.focal)
            if len(names) <= PREVIEWS:
                preview = options.out / "preview" / f"{category}_{name}.jpg"
                preview.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(draw_overlay(pixels.convert("RGB"), meshes[category], pose, camera)).save(preview)
        write_image(options.out, name, row, image, pose, camera)
    for (category, split), names in lists.items():
        write_list(options.out, category, split, names)
    for category in objects:
        path = options.out / "CAD" / category / "01.off"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_off(path, meshes[category])
    print(f"wrote {sum(map(len, lists.values()))} images of {len(objects)} categories to {options.out}")


def read_table(path: Path) -> list[dict[str, str]]:
    """The lines of a CSV file, by the names in its first line."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file, skipinitialspace=True))


def box_mesh(row: dict[str, str]) -> Mesh:
    """A box of the size that a line of sizes.csv states."""
    return cuboid_mesh(torch.tensor([float(row[axis]) for axis in ("width", "depth", "height")]), 8).mesh


def place(row: dict[str, str], mesh: Mesh, size: tuple[int, int], focal: float) -> tuple[Pose, Camera]:
    """The pose and the camera of an image of this size (width, height).

    The camera's distance is that at which the category's box, turned as the table states, is as large in the image as
    the table's box; the object's origin is where the two boxes have one centre.
    """
    (width, height), (x1, y1, x2, y2) = size, corners(row)
    angles = [math.radians(float(row[key])) for key in ("azimuth", "elevation", "theta")]
    camera = Camera.centred(focal, height, width)
    pose, principal_point = fit_to_box(
        mesh.vertices, Pose.of([angles[0]], *angles[1:], 10.0), camera, max(x2 - x1, y2 - y1)
    )
    middle = torch.tensor([(x1 + x2 - width) / 2, (y1 + y2 - height) / 2])
    return pose[0], replace(camera, principal_point=principal_point[0] + middle)


def corners(row: dict[str, str]) -> tuple[float, float, float, float]:
    """The table's box: x1, y1, x2, y2 in pixels."""
    return float(row["x1"]), float(row["y1"]), float(row["x2"]), float(row["y2"])


def write_image(out: Path, name: str, row: dict[str, str], image: Path, pose: Pose, camera: Camera) -> None:
    """Copy one image and write its annotation."""
    entry = annotation_dict(
        category=row["category"],
        azimuth=float(pose.azimuth),
        elevation=float(pose.elevation),
        theta=float(pose.theta),
        distance=float(pose.distance),
        focal=float(camera.focal),
        principal_point=(float(camera.principal_point[0]), float(camera.principal_point[1])),
        bbox=corners(row),
        width=camera.width,
        height=camera.height,
    )
    for folder in ("images", "annotations"):
        (out / folder / row["category"]).mkdir(parents=True, exist_ok=True)
    shutil.copyfile(image, out / "images" / row["category"] / f"{name}{image.suffix}")
    write_annotation(out / "annotations" / row["category"] / f"{name}.npz", [entry])


if __name__ == "__main__":
    main()
