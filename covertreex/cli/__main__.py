from covertreex.cli import app

app(prog_name="covertreex")
