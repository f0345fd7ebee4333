"""Archives in the formats of other tools, written from boxes and outlines that a test draws."""

import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element, SubElement, tostring

import cv2
import numpy as np
from pycocotools import mask as masks

WIDTH, HEIGHT = 64, 48


class Box(NamedTuple):
    """A class and the corners in pixels."""

    name: str
    left: float
    top: float
    right: float
    bottom: float


Images = Mapping[str, Sequence[Box]]


def jpeg(seed: int, width: int = WIDTH, height: int = HEIGHT) -> bytes:
    """A picture of noise, so that no two are alike."""
    noise = np.random.default_rng(seed).integers(0, 255, (height // 4, width // 4, 3), np.uint8)
    picture = cv2.resize(noise, (width, height), interpolation=cv2.INTER_NEAREST)
    return bytes(cv2.imencode(".jpg", picture)[1])


def write_zip(path: Path, files: Mapping[str, bytes | str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def _pictures(images: Images, folder: str) -> dict[str, bytes | str]:
    return {f"{folder}{name}": jpeg(seed) for seed, name in enumerate(images)}


def _classes(images: Images) -> list[str]:
    return sorted({box.name for boxes in images.values() for box in boxes})


def coco(images: Images, more: Callable[[Box], Mapping[str, object]] = lambda _: {}) -> dict[str, bytes | str]:
    names = _classes(images)
    document = {
        "images": [
            {"id": at, "file_name": name, "width": WIDTH, "height": HEIGHT} for at, name in enumerate(images, 7)
        ],
        "categories": [{"id": at, "name": name} for at, name in enumerate(names, 3)],
        "annotations": [
            {
                "id": 1,
                "image_id": at,
                "category_id": names.index(box.name) + 3,
                "bbox": [box.left, box.top, box.right - box.left, box.bottom - box.top],
                "iscrowd": 0,
                **more(box),
            }
            for at, boxes in enumerate(images.values(), 7)
            for box in boxes
        ],
    }
    return {"annotations/instances_default.json": json.dumps(document), **_pictures(images, "images/default/")}


def coco_polygons(images: Images) -> dict[str, bytes | str]:
    """Each box as an outline of four corners."""
    return coco(
        images,
        lambda box: {
            "segmentation": [[box.left, box.top, box.right, box.top, box.right, box.bottom, box.left, box.bottom]]
        },
    )


def coco_run_lengths(images: Images) -> dict[str, bytes | str]:
    """Each box as a mask; its corners are whole pixels."""

    def mask(box: Box) -> Mapping[str, object]:
        pixels = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
        pixels[int(box.top) : int(box.bottom), int(box.left) : int(box.right)] = 1
        return {"segmentation": {"size": [HEIGHT, WIDTH], "counts": masks.encode(pixels)["counts"].decode()}}

    return coco(images, mask)


def coco_keypoints(images: Images) -> dict[str, bytes | str]:
    """Each box with two of its corners as keypoints."""
    return coco(images, lambda box: {"keypoints": [box.left, box.top, 2, box.right, box.bottom, 1]})


def voc(images: Images, first_pixel: int = 0) -> dict[str, bytes | str]:
    files = _pictures(images, "JPEGImages/")
    for name, boxes in images.items():
        root = Element("annotation")
        SubElement(root, "folder").text = "VOC2012" if first_pixel else "images"
        SubElement(root, "filename").text = name
        size = SubElement(root, "size")
        for side, value in (("width", WIDTH), ("height", HEIGHT)):
            SubElement(size, side).text = str(value)
        for box in boxes:
            item = SubElement(root, "object")
            SubElement(item, "name").text = box.name
            corners = SubElement(item, "bndbox")
            for side, corner in (
                ("xmin", box.left + first_pixel),
                ("ymin", box.top + first_pixel),
                ("xmax", box.right),
                ("ymax", box.bottom),
            ):
                SubElement(corners, side).text = str(corner)
        files[f"Annotations/{Path(name).stem}.xml"] = tostring(root, "unicode")
    return files


def voc_challenge(images: Images) -> dict[str, bytes | str]:
    return voc(images, first_pixel=1)


def cvat(images: Images) -> dict[str, bytes | str]:
    root = Element("annotations")
    for at, (name, boxes) in enumerate(images.items()):
        image = SubElement(root, "image", id=str(at), name=name, width=str(WIDTH), height=str(HEIGHT))
        for box in boxes:
            corners = {"xtl": box.left, "ytl": box.top, "xbr": box.right, "ybr": box.bottom}
            SubElement(image, "box", {"label": box.name} | {key: str(value) for key, value in corners.items()})
    return {"annotations.xml": tostring(root, "unicode"), **_pictures(images, "images/")}


def label_studio(images: Images) -> dict[str, bytes | str]:
    tasks = []
    for name, boxes in images.items():
        results = [
            {
                "type": "rectanglelabels",
                "original_width": WIDTH,
                "original_height": HEIGHT,
                "value": {
                    "x": 100 * box.left / WIDTH,
                    "y": 100 * box.top / HEIGHT,
                    "width": 100 * (box.right - box.left) / WIDTH,
                    "height": 100 * (box.bottom - box.top) / HEIGHT,
                    "rotation": 0,
                    "rectanglelabels": [box.name],
                },
            }
            for box in boxes
        ]
        address = f"/data/upload/1/0123abcd-{name}"
        tasks.append({"data": {"image": address}, "annotations": [{"result": results}]})
    return {"project-1.json": json.dumps(tasks), **_pictures(images, "")}


def labelme(images: Images) -> dict[str, bytes | str]:
    files = _pictures(images, "")
    for name, boxes in images.items():
        shapes = [
            {"label": box.name, "shape_type": "rectangle", "points": [[box.right, box.bottom], [box.left, box.top]]}
            for box in boxes
        ]
        document = {"imagePath": f"..\\old\\{name}", "imageWidth": WIDTH, "imageHeight": HEIGHT, "shapes": shapes}
        files[f"{Path(name).stem}.json"] = json.dumps(document)
    return files


def open_images(images: Images) -> dict[str, bytes | str]:
    names = _classes(images)
    rows = ["ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf"]
    for name, boxes in images.items():
        for box in boxes:
            sides = box.left / WIDTH, box.right / WIDTH, box.top / HEIGHT, box.bottom / HEIGHT
            rows.append(f"{Path(name).stem},x,/m/{names.index(box.name)},1,{','.join(map(str, sides))},0,0,0")
    described = "\n".join(f"/m/{at},{name}" for at, name in enumerate(names))
    return {
        "train-annotations-bbox.csv": "\n".join(rows),
        "class-descriptions-boxable.csv": described,
        **_pictures(images, "data/"),
    }


def datumaro(images: Images) -> dict[str, bytes | str]:
    names = _classes(images)
    items = [
        {
            "id": Path(name).stem,
            "image": {"path": name, "size": [HEIGHT, WIDTH]},
            "annotations": [
                {
                    "type": "bbox",
                    "label_id": names.index(box.name),
                    "bbox": [box.left, box.top, box.right - box.left, box.bottom - box.top],
                }
                for box in boxes
            ],
        }
        for name, boxes in images.items()
    ]
    document = {"categories": {"label": {"labels": [{"name": name} for name in names]}}, "items": items}
    return {"annotations/default.json": json.dumps(document), **_pictures(images, "images/default/")}


def kitti(images: Images) -> dict[str, bytes | str]:
    files = _pictures(images, "training/image_2/")
    for name, boxes in images.items():
        lines = [f"{box.name} 0 0 0 {box.left} {box.top} {box.right} {box.bottom} 1 1 1 0 0 0 0" for box in boxes]
        files[f"training/label_2/{Path(name).stem}.txt"] = "\n".join(lines)
    return files


def plain_yolo(images: Images) -> dict[str, bytes | str]:
    names = _classes(images)
    files = _pictures(images, "obj_train_data/")
    for name, boxes in images.items():
        lines = [
            f"{names.index(box.name)} {(box.left + box.right) / 2 / WIDTH} {(box.top + box.bottom) / 2 / HEIGHT} "
            f"{(box.right - box.left) / WIDTH} {(box.bottom - box.top) / HEIGHT}"
            for box in boxes
        ]
        files[f"obj_train_data/{Path(name).stem}.txt"] = "\n".join(lines)
    return {**files, "obj.names": "\n".join(names)}


SOURCES: Mapping[str, tuple[str, Callable[[Images], dict[str, bytes | str]]]] = {
    "coco": ("coco", coco),
    "voc": ("voc", voc),
    "voc of a challenge": ("voc", voc_challenge),
    "cvat": ("cvat", cvat),
    "label studio": ("label-studio", label_studio),
    "labelme": ("labelme", labelme),
    "open images": ("open-images", open_images),
    "datumaro": ("datumaro", datumaro),
    "kitti": ("kitti", kitti),
    "yolo": ("yolo", plain_yolo),
}
