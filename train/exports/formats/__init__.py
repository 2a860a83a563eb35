"""Other forms of an exported network: LiteRT for phones, ONNX for other runtimes."""
