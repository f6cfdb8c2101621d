"""A trained model as a folder that stands alone: ONNX, tokenizer, description, card; each file compared with the model it came from."""
