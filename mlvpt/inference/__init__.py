"""Use of a trained model: predictions for image files, and export to ONNX or torch.export."""
