from rexdet.cli import main

if __name__ == "__main__":
    main("make_quickstart_weights")
