"""Inference: what a trained model is used for, predicting files and leaving Python."""
