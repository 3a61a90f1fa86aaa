"""Weights that are asked for without a network."""

import time

import pytest
from huggingface_hub import constants

from mlvpt.backbones import create_backbone
from mlvpt.errors import InputError
from mlvpt.files.network import cache_alone_without_network, can_connect

CLOSED = "http://127.0.0.1:9"  # nothing listens there


def test_a_host_that_does_not_answer_is_known_in_seconds():
    began = time.monotonic()
    assert not can_connect(CLOSED)
    assert time.monotonic() - began < 5


def test_a_pretrained_backbone_without_network_is_one_sentence_and_no_retries(
    monkeypatch, tmp_path
):
    monkeypatch.setattr(constants, "ENDPOINT", CLOSED)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    # as the Hub's libraries decide it: looked up at each request, never kept
    seen = []

    def create(*_, **__):
        seen.append(constants.HF_HUB_OFFLINE)
        raise OSError("offline\nand more")

    monkeypatch.setattr("timm.create_model", create)
    monkeypatch.setattr("mlvpt.backbones._check_name", lambda _: None)
    with pytest.raises(InputError, match=r"could not be loaded \(offline\)"):
        create_backbone("vit_tiny_patch16_224")
    assert seen == [True]
    assert not constants.HF_HUB_OFFLINE


def test_nothing_is_asked_for_where_nothing_is_fetched(monkeypatch):
    monkeypatch.setattr("mlvpt.files.network.can_connect", lambda _: pytest.fail("asked"))
    with cache_alone_without_network(needed=False):
        assert not constants.HF_HUB_OFFLINE
