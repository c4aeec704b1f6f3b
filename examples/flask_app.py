"""A shop on Flask: plain code pushes, handlers have the application's context.

flask --app examples/flask_app.py run              # pip install flask duly
flask --app examples/flask_app.py duly worker      # in another terminal; --processes 4 for four
flask --app examples/flask_app.py duly jobs list
"""

import os
import sqlite3

from flask import Flask, current_app, g

from duly import Scheduler
from duly.contrib.flask import init_app

scheduler = Scheduler(app="shop")


@scheduler.task
def send_receipt(order: int) -> None:
    # In a thread of the worker, in an app context of its own: the same code as in a request works here.
    with database() as db:
        db.execute("UPDATE orders SET receipt = ? WHERE id = ?", (f"receipt for order {order}", order))


def create_app() -> Flask:
    app = Flask(__name__)
    app.config["SHOP_DATABASE"] = os.environ.get("SHOP_DATABASE", "shop.db")
    app.config["DULY_URL"] = os.environ.get("DULY_URL", "sqlite:///duly.db")  # each setting of duly: DULY_NAMESPACE, …
    init_app(app, scheduler)
    app.teardown_appcontext(close_database)

    @app.post("/orders/<int:order>/pay")
    def pay(order: int) -> dict[str, str]:
        with database() as db:
            db.execute("INSERT OR IGNORE INTO orders (id) VALUES (?)", (order,))
        job = send_receipt.options(id=f"receipt:{order}").push_sync(order)
        return {"job": job.id, "answer": job.answer}

    @app.get("/orders/<int:order>")
    def receipt(order: int) -> dict[str, str | None]:
        found = database().execute("SELECT receipt FROM orders WHERE id = ?", (order,)).fetchone()
        return {"receipt": found and found[0]}

    return app


def database() -> sqlite3.Connection:
    """The connection of this request or run, opened when it is first asked for."""
    if "db" not in g:
        g.db = sqlite3.connect(current_app.config["SHOP_DATABASE"], timeout=10)
        g.db.execute("CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, receipt TEXT)")
    return g.db


def close_database(_error: BaseException | None) -> None:
    if "db" in g:
        g.pop("db").close()
