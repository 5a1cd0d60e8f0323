"""Random numbers that depend on what they are for, never on a global state or a batch's make-up."""

import hashlib

import torch
from torch import Generator, Tensor


def generator(*parts: object, device: torch.device | str = "cpu") -> Generator:
    """A generator seeded by these parts (numbers, words)."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=7).digest()
    return Generator(device=device).manual_seed(int.from_bytes(digest, "little"))


def picture_generators(
    images: Tensor, *parts: object, device: torch.device | str = "cpu"
) -> list[Generator]:
    """One generator for each picture, seeded by its content and these parts. images (B, ...)."""
    return [generator(picture_hash(image), *parts, device=device) for image in images]


def picture_hash(image: Tensor) -> str:
    """A hash of one picture's content."""
    content = image.detach().cpu().contiguous().numpy().tobytes()
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def few_by_content(images: Tensor, count: int) -> Tensor:
    """Sorted indices of at most `count` pictures that their content chooses, whatever their order;
    a larger count adds to a smaller one's. images (B, ...)."""
    hashes = [picture_hash(image) for image in images]
    chosen = sorted(range(len(hashes)), key=lambda i: (hashes[i], i))[:count]
    return torch.tensor(sorted(chosen))
