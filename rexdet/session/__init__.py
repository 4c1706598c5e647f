"""What a session of training or evaluating a detector needs whatever the engine: data, checkpoints, scores, costs."""
