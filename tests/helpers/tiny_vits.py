"""Small random Vision Transformers."""

import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn


def tiny_vit(**options) -> VisionTransformer:
    torch.manual_seed(0)
    defaults = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 2}
    vit = VisionTransformer(**{**defaults, "num_classes": 0, **options})
    for parameter in vit.parameters():  # biases, scales and tokens away from 0 and 1
        nn.init.trunc_normal_(parameter, mean=parameter.mean().item(), std=0.2)
    return vit


def tiny_model(name: str, image_size: tuple[int, int] | int | None = None, **options):
    """A timm model of this name with two narrow blocks and random weights, in eval mode."""
    torch.manual_seed(0)
    if image_size is None:
        image_size = (56, 28) if "patch14" in name or "dinov2" in name else (64, 32)
    defaults = {"num_classes": 0, "depth": 2, "embed_dim": 48, "num_heads": 4}
    vit = timm.create_model(name, **{**defaults, "img_size": image_size, **options}).eval()
    for parameter in vit.parameters():
        nn.init.trunc_normal_(parameter, mean=parameter.mean().item(), std=0.2)
    return vit
