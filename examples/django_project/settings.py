"""Settings of the example project. In earnest, DEBUG is off, and SECRET_KEY is a secret."""

import os
from pathlib import Path

BASE_DIR = Path(__file__).parent
DATA = Path(os.environ.get("SHOP_DATA", BASE_DIR))

INSTALLED_APPS = ["duly.contrib.django", "shop"]
DULY = {
    "URL": os.environ.get("DULY_URL", f"sqlite:///{DATA / 'duly.db'}"),
    "APP": "shop",
    "THREADS": 20,
}

DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": DATA / "shop.db", "OPTIONS": {"timeout": 10}}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ROOT_URLCONF = "shop.urls"
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "testserver"]
DEBUG = True
SECRET_KEY = "only for this example"
USE_TZ = True
