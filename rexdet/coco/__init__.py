"""COCO data without an engine: annotations, detections, the evaluation numbers, pictures, the embedded data set."""
