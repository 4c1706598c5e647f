# What every config over a network of ours has: the plugin, and a runner that fills in what follows from the network
# (MMDetection's own tools/train.py and tools/test.py take it from here).
custom_imports = dict(imports=["rexdet.mmdet"], allow_failed_imports=False)
runner_type = "RexDetRunner"
