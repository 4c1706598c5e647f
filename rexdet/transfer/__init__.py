"""Classification: data, protocols and one trainer, from scratch or from a checkpoint. Knows nothing of detection."""
