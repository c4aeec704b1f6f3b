"""The jobs of the shop. Django finds this module by its name, in each app."""

from duly import Retry
from duly.contrib.django import scheduler
from shop.models import Order


@scheduler.task(retry=Retry(limit=5, delay=2, backoff=2))
def send_receipt(order: int) -> None:
    # In a thread of the worker; connections to the database are closed around it as around a request.
    Order.objects.filter(pk=order).update(receipt=f"receipt for order {order}")


@scheduler.task(executor="process", timeout=60)
def print_label(order: int) -> None:
    # In a process of its own, which has set Django up by itself.
    Order.objects.filter(pk=order).update(receipt=f"label for order {order}")


@scheduler.cron("0 3 * * *", timezone="Europe/Paris")  # once a night, however many workers there are
def forget_empty_orders() -> None:
    Order.objects.filter(receipt="").delete()
