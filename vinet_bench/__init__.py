"""vinet-bench: saliency methods on medical images, compared so that a reviewer believes it."""

__version__ = "0.5.0"
