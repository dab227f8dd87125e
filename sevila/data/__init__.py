"""The data path: records, frame sampling, decoding, transforms, and batches of them. It knows no model."""
