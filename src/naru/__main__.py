from naru.cli import run

run()
