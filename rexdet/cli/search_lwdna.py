"""Search layer-wise widths for a network (LW-DNA)."""

from __future__ import annotations

import argparse

HELP = "search layer-wise widths: widen a network, look at two mini-batches, shrink it to a cost in one shot"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The switches of `tools/search_lwdna.py`."""
    parser.add_argument("--network", required=True, metavar="NAME", help="e.g. resnet50, torchvision:mobilenet_v2")
    parser.add_argument("--ratio", required=True, type=float, metavar="R", help="cost wanted, of the widened network's")
    parser.add_argument("--width", type=float, default=2.0, metavar="W", help="widen every layer by it (default 2)")
    # Not argparse's choices: the names are the search's to know, and to complain about.
    parser.add_argument("--criterion", default="gradient", metavar="C", help="gradient (default), magnitude or random")
    parser.add_argument("--data", default="", metavar="D", help="folder of pictures by class (default: random data)")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--output", required=True, metavar="D", help="folder for genome.yaml, record.json and the plot")
    parser.add_argument("--remain", type=float, default=0.4, metavar="S", help="share every layer keeps (default 0.4)")
    parser.add_argument(
        "--linear", type=float, default=0.45, metavar="S", help="the same for what the classifier reads (default 0.45)"
    )
    parser.add_argument("--learning-rate", type=float, default=0.1, metavar="L", help="of the two steps (default 0.1)")
    parser.add_argument("--embedding-dim", type=int, default=2, metavar="M", help="of the hypernetwork (default 2)")
    parser.add_argument("--micro-batch", type=int, default=8, metavar="N", help="images in memory at once (default 8)")
    parser.add_argument("--num-classes", type=int, metavar="N", help="default: the network's own")
    parser.add_argument(
        "--input-size", type=int, metavar="N", help="side of an image (default 224; 32 for CIFAR forms)"
    )
    parser.add_argument("--save-weights", action="store_true", help="keep the inherited weights: inherited.safetensors")


def run(arguments: argparse.Namespace) -> int:
    """Search, write the folder, say what was found."""
    from rexdet.shrink.run import SearchJob, run_search
    from rexdet.shrink.search import Settings

    job = SearchJob(
        network=arguments.network,
        ratio=arguments.ratio,
        output=arguments.output,
        width=arguments.width,
        criterion=arguments.criterion,
        data=arguments.data,
        seed=arguments.seed,
        num_classes=arguments.num_classes,
        input_size=arguments.input_size,
        settings=Settings(
            remain=arguments.remain,
            linear=arguments.linear,
            embedding_dim=arguments.embedding_dim,
            micro_batch=arguments.micro_batch,
            learning_rate=arguments.learning_rate,
        ),
        save_weights=arguments.save_weights,
        command=["search_lwdna", *arguments.command],
    )
    result = run_search(job)
    kept = result.keep_ratios.values()
    of_widened, of_baseline = result.macs / result.widened_macs, result.macs / result.baseline_macs
    print(
        f"{result.macs / 1e6:,.1f} million MACs: {of_widened:.2%} of the widened network's, "
        f"{of_baseline:.1%} of {job.network}'s"
    )
    print(f"layers keep {min(kept):.0%} to {max(kept):.0%} of their widened channels")
    if job.criterion != "gradient":
        null = "latent numbers hardly move in two steps" if job.criterion == "magnitude" else "the control"
        print(f"{job.criterion} says nothing about the layers: {null}; compare with --criterion gradient")
    print(f"rebuilt network = masked network within {result.difference['float64']:.1e} (float64)")
    print(f"{job.output}/genome.yaml; lwdna:{job.output}/genome.yaml is its name")
    return 0
