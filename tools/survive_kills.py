from rexdet.cli import main

if __name__ == "__main__":
    main("survive_kills")
