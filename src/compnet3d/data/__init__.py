"""Data sets on disk: reading, checking, cropping and augmenting."""

from compnet3d.data.annotations import annotation_dict, read_annotation, write_annotation
from compnet3d.data.augment import Augmentation
from compnet3d.data.imagenet3d import ImageNet3D, write_list
from compnet3d.data.loader import CropDataset
from compnet3d.data.sample import Sample
from compnet3d.data.symmetry import Symmetry, load_symmetry
from compnet3d.data.transforms import (
    BoxCrop,
    Crop,
    InputConfig,
    crop_box,
    crop_to_source_pose,
    make_crop,
    rotate_sample_image,
)

__all__ = [
    "Augmentation",
    "BoxCrop",
    "Crop",
    "CropDataset",
    "ImageNet3D",
    "InputConfig",
    "Sample",
    "Symmetry",
    "annotation_dict",
    "crop_box",
    "crop_to_source_pose",
    "load_symmetry",
    "make_crop",
    "read_annotation",
    "rotate_sample_image",
    "write_annotation",
    "write_list",
]
