"""Two ways to push: after the commit of a transaction, and from an async view."""

from django.db import transaction
from django.http import HttpRequest, JsonResponse
from django.shortcuts import get_object_or_404

from duly.contrib.django import apush, push_on_commit
from shop.models import Order
from shop.tasks import print_label, send_receipt


@transaction.atomic
def create(request: HttpRequest) -> JsonResponse:
    order = Order.objects.create()
    # A worker must not look for a row that is not committed yet, nor send a receipt for one that is rolled back.
    job = push_on_commit(send_receipt, order.pk)
    if request.GET.get("fail"):
        raise ValueError("no such article")
    return JsonResponse({"order": order.pk, "job": job})


def show(_request: HttpRequest, pk: int) -> JsonResponse:
    return JsonResponse({"receipt": get_object_or_404(Order, pk=pk).receipt})


async def label(_request: HttpRequest, pk: int) -> JsonResponse:
    job = await apush(print_label, pk)
    return JsonResponse({"job": job.id})
