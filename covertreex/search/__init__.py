"""How it is answered: strategies, the screens that shorten their work, and the driver that runs them."""
