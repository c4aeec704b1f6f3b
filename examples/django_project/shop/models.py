"""What the shop keeps."""

from django.db import models


class Order(models.Model):
    receipt = models.TextField(default="", blank=True)
