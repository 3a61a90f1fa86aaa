"""Small random Vision Transformers."""

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
