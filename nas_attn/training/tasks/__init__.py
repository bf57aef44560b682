"""The tasks: classification, segmentation and detection, a folder each."""
