"""A shop on Django, with receipts sent by duly.

python manage.py migrate                           # pip install django duly
python manage.py runserver
python manage.py duly worker                       # in another terminal; --processes 4 for four
python manage.py duly jobs list

curl -X POST http://127.0.0.1:8000/orders/         # the receipt is pushed once the order is committed
curl http://127.0.0.1:8000/orders/1/
"""

import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
    execute_from_command_line(sys.argv)
