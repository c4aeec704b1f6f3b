"""Where the views are."""

from django.urls import path

from shop import views

urlpatterns = [
    path("orders/", views.create),
    path("orders/<int:pk>/", views.show),
    path("orders/<int:pk>/label/", views.label),
]
