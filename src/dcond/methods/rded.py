"""RDED: crops of real images that a trained teacher finds easiest, packed."""

from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Gt, Le
from torch import Tensor

from dcond.augment.resized_crop import draw_boxes, resize_boxes
from dcond.device import scaled_batch_size
from dcond.log import counted
from dcond.methods.base import NoState, NoSteps
from dcond.models import Network
from dcond.models.staged import centre_pad
from dcond.multi_formation import cell, tile
from dcond.rng import Streams
from dcond.settings import PositiveInt, settings
from dcond.training.teacher import Teacher
from dcond.types import ImageSpec, RealData, SyntheticSet, draw_rows

CHUNK = 1000  # crops per pass at up to 64 x 64 pixels; fewer for larger images


@settings
class RDED(NoSteps):
    """Take the crops of real images that a teacher classifies with the lowest loss; no steps.

    Of ``images`` random images of a class, ``crops`` random crops each are scored by the teacher's
    cross-entropy of the class; every image keeps its best crop, and the ipc · f² best of these are
    stored, f² in each image, rank by rank. A crop is a square of U(area, 1) of the image's area,
    resized to ⌈side / f⌉; the teacher sees it with a frame of the mean colour.

    Images are read class by class, a chunk at a time, so memory does not grow with the data set.

    Paper: Sun et al., On the diversity and realism of distilled dataset, arXiv 2312.03526, section
    4. Code: github LINs-lab/RDED, synthesize/main.py. Differs: a class with fewer images than are
    needed repeats images, with other crops; images are stored as they are, not as JPEG; f² crops
    are enlarged before a network sees them, as every packed set of dcond, instead of being shown as
    one picture.

    Args:
        teacher: how the teacher is trained, see :class:`~dcond.training.teacher.Teacher`; with the
            settings of ``teacher=``, the network that labels batches in evaluation is the same one.
        cache: folder where the trained teacher is kept.
        images: real images per class that are looked at, at most all.
        crops: crops of each.
        area: smallest area of a crop, as a fraction of the image's.
        factor: f; f > 1 packs f² crops into each stored image.
        steps: always 0.
    """

    teacher: Teacher
    cache: str
    images: PositiveInt = 300
    crops: PositiveInt = 5
    area: Annotated[float, Gt(0), Le(1)] = 0.08
    factor: PositiveInt = 1

    def init(self, real: RealData, synthetic: SyntheticSet, rng: Streams) -> NoState:
        """Choose the crops and store them in ``synthetic``."""
        teacher = self.teacher.load_or_train(real, Path(self.cache)).network
        count = synthetic.ipc * self.factor**2
        with torch.no_grad():
            for c in counted(len(real.class_rows), "choosing crops"):
                rows, boxes = self.candidates(real, c, count, rng.initialisation)
                losses = self.losses(real, c, rows, boxes, teacher)
                chosen = best_crops(losses, count)
                crops = self._cut(real, rows[chosen[:, 0]], boxes[chosen.unbind(1)])
                synthetic.by_class[c].copy_(tile(crops, self.factor, real.spec.size))
        return NoState()

    def candidates(
        self, real: RealData, c: int, count: int, rng: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Draw images and boxes of a class, at least ``count`` images.

        Returns:
            Rows (n,) of the training split, and boxes (n, crops, 4), see
            :func:`~dcond.augment.resized_crop.draw_boxes`; int64 on the CPU.
        """
        own = real.class_rows[c]
        rows = draw_rows(own, max(count, min(self.images, len(own))), rng)
        boxes = draw_boxes(
            len(rows) * self.crops, real.spec.size, rng, area=self.area, ratio=(1.0, 1.0)
        )
        return rows, boxes.view(len(rows), self.crops, 4)

    def losses(
        self, real: RealData, c: int, rows: Tensor, boxes: Tensor, teacher: Network
    ) -> Tensor:
        """Return the teacher's cross-entropy of class c on every crop: float64 (n, crops)."""
        size = real.spec.size
        chunk = max(1, scaled_batch_size(CHUNK, *size, teacher) // self.crops)
        losses = []
        for own, theirs in zip(rows.split(chunk), boxes.split(chunk), strict=True):
            crops = self._cut(real, own, theirs)
            logits = teacher(_padded(crops, real.spec))
            # In float32 the losses of a sure teacher are all 0, and the order would be arbitrary.
            labels = torch.full((len(crops),), c)
            losses.append(F.cross_entropy(logits.cpu().double(), labels, reduction="none"))
        return torch.cat(losses).view(len(rows), self.crops)

    def _cut(self, real: RealData, rows: Tensor, boxes: Tensor) -> Tensor:
        """Return crops (b, c, ⌈h/f⌉, ⌈w/f⌉) of the training images of rows, in [0, 1].

        Args:
            real: the data set.
            rows: (n,).
            boxes: (n, 4), or (n, crops, 4) for several crops of each image.
        """
        h, w = real.spec.size
        images = real.pixels(rows)
        if boxes.ndim == 3:
            images, boxes = images.repeat_interleave(boxes.shape[1], 0), boxes.flatten(0, 1)
        return resize_boxes(images, boxes, (cell(h, self.factor), cell(w, self.factor)))


def _padded(crops: Tensor, spec: ImageSpec) -> Tensor:
    """Return crops (b, c, h', w') in [0, 1], normalised, in a frame of what becomes 0."""
    if spec.whitening is None:
        return centre_pad(spec.normalise(crops), spec.size)
    inside = centre_pad(torch.ones_like(crops), spec.size) > 0  # whitening takes whole images
    mean = spec.whitening.mean.to(crops).view(-1, *spec.size)
    return spec.normalise(torch.where(inside, centre_pad(crops, spec.size), mean))


def best_crops(losses: Tensor, count: int) -> Tensor:
    """Return (image, crop), int64 (count, 2), of the images whose best crops have lowest losses.

    Args:
        losses: (n, crops), n ≥ count; one that is not finite counts as the worst.
        count: images to take, in order of loss.
    """
    lowest, crop = losses.nan_to_num(torch.inf).min(1)
    images = lowest.argsort(stable=True)[:count]
    return torch.stack([images, crop[images]], dim=1)
