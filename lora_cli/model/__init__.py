"""The model as it will train: base from weights, quantized, adapter attached."""
