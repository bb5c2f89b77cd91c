"""Makes the small golden pictures of this folder and their figures.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install opencv-python-headless numpy
    /tmp/venv/bin/python make_golden.py

The pictures are synthetic. OpenCV computes the figures, by the definitions in src/analysis. `seed` makes
every run draw the same.
"""

import json
import pathlib

import cv2
import numpy as np

HERE = pathlib.Path(__file__).parent


def gradient():
    x, y = np.meshgrid(np.linspace(0, 255, 96), np.linspace(0, 255, 64))
    return np.dstack([x, y, (510 - x - y) / 2]).round().astype(np.uint8)


def blocks():
    rng = np.random.default_rng(1)
    colours = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return np.kron(colours, np.ones((13, 14, 1), dtype=np.uint8))[:63, :97]


def gray_noise():
    rng = np.random.default_rng(2)
    return rng.normal(120, 25, (48, 64)).clip(0, 255).round().astype(np.uint8)


def road():
    rng = np.random.default_rng(3)
    image = np.full((64, 96, 3), (96, 98, 104), dtype=np.float64)
    image[:20] = (170, 190, 225)
    image[40:42, ::2] = 210
    image[26:38, 10:30] = (150, 30, 28)
    image[44:58, 50:80] = (40, 60, 120)
    return (image + rng.normal(0, 4, (64, 96, 1))).clip(0, 255).round().astype(np.uint8)


def sliver():
    return np.array([[10, 200, 30, 90, 250]] * 2, dtype=np.uint8)


def figures(image):
    if image.ndim == 3:
        rgb = image.astype(np.float64)
        luma = (rgb @ [0.299, 0.587, 0.114]).round().astype(np.uint8)
        value = image.max(axis=2).mean()
    else:
        luma, value = image, image.mean()
    border = cv2.BORDER_REFLECT_101
    laplacian = cv2.Laplacian(luma, cv2.CV_64F, ksize=1, borderType=border)
    kernel = np.full((3, 3), -1.0)
    kernel[1, 1] = 8.0
    high_pass = cv2.filter2D(luma, cv2.CV_8U, kernel, borderType=border)
    mean, std = float(luma.mean()), float(luma.std())
    blur = min(1.0, float(laplacian.var()) / 1000)
    distance = max(30 - mean, mean - 220, 0.0)
    brightness = 1.0 if distance == 0 else max(0.0, 1 - distance / 100)
    contrast = min(1.0, std / 80)
    noise = max(0.0, 1 - float(high_pass.std()) / 50)
    quality = 0.3 * blur + 0.25 * brightness + 0.25 * contrast + 0.2 * noise
    if std < 30 and mean < 100:
        weather = "foggy"
    elif mean < 80:
        weather = "overcast"
    else:
        weather = "clear" if std > 60 else "partly_cloudy"
    levels = [(180, "bright"), (100, "normal"), (50, "dim")]
    lighting = next((name for level, name in levels if value > level), "dark")
    return {
        "width": image.shape[1],
        "height": image.shape[0],
        "channels": 3 if image.ndim == 3 else 1,
        "laplacian_variance": float(laplacian.var()),
        "mean_luma": mean,
        "std_luma": std,
        "high_pass_std": float(high_pass.std()),
        "mean_value": float(value),
        "blur_score": blur,
        "brightness_score": brightness,
        "contrast_score": contrast,
        "noise_level": noise,
        "quality_score": min(1.0, max(0.0, quality)),
        "lighting_conditions": lighting,
        "weather_conditions": weather,
    }


def main():
    frames = {}
    for draw in (gradient, blocks, gray_noise, road, sliver):
        image = draw()
        stored = image[:, :, ::-1] if image.ndim == 3 else image
        cv2.imwrite(str(HERE / f"{draw.__name__}.png"), stored)
        frames[draw.__name__] = figures(image)
    (HERE / "golden.json").write_text(json.dumps({"frames": frames}, indent=1) + "\n")


if __name__ == "__main__":
    main()
