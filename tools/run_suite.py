from rexdet.cli import main

if __name__ == "__main__":
    main("run_suite")
