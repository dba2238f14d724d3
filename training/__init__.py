"""PyTorch to ONNX: train LeNet on MNIST and hand over one file that explains itself."""
