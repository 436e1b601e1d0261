"""django_desk.py DIR PORT KEPT [HOOK_URL]: django-helpdesk with everything below DIR, on loopback, in the foreground. KEPT keeps what initialising gave.

Run by the Python of a virtual environment that holds django-helpdesk, whose module this file must not be named like. HOOK_URL is where it posts new tickets and follow-ups.
"""
import fcntl
import os
import pathlib
import shutil
import sys
import types

DIR, PORT, KEPT = pathlib.Path(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3])
if len(sys.argv) > 4:
    os.environ["HELPDESK_FOLLOWUP_WEBHOOK_URLS"] = sys.argv[4] + "followup"
    os.environ["HELPDESK_NEW_TICKET_WEBHOOK_URLS"] = sys.argv[4] + "ticket"

from django.conf import settings

APPS = "admin auth contenttypes humanize messages sessions sites staticfiles".split()
settings.configure(
    DEBUG=False, ALLOWED_HOSTS=["127.0.0.1"], SECRET_KEY="test", USE_TZ=True, TIME_ZONE="UTC", SITE_ID=1,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(DIR / "db.sqlite3"), "OPTIONS": {"timeout": 20}}},
    INSTALLED_APPS=["django.contrib." + app for app in APPS] + ["bootstrap4form", "rest_framework", "rest_framework.authtoken", "helpdesk"],
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware", "django.middleware.common.CommonMiddleware",
                "django.middleware.csrf.CsrfViewMiddleware", "django.contrib.auth.middleware.AuthenticationMiddleware",
                "django.contrib.messages.middleware.MessageMiddleware"],
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True, "OPTIONS": {"context_processors": [
        "django.contrib.auth.context_processors.auth", "django.contrib.messages.context_processors.messages",
        "django.template.context_processors.request"]}}],
    ROOT_URLCONF="helpdesk_urls", STATIC_URL="/static/", MEDIA_ROOT=str(DIR / "media"), MEDIA_URL="/media/", LOGIN_URL="/login/",
    DEFAULT_AUTO_FIELD="django.db.models.AutoField", EMAIL_BACKEND="django.core.mail.backends.filebased.EmailBackend",
    EMAIL_FILE_PATH=str(DIR / "mail"), HELPDESK_TEAMS_MODEL="auth.User", HELPDESK_TEAMS_MIGRATION_DEPENDENCIES=[],
    HELPDESK_KBITEM_TEAM_GETTER=lambda _: None,
    REST_FRAMEWORK={"DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework.authentication.TokenAuthentication"]},
)
import django
from django.urls import include, path, re_path
from django.views.static import serve

django.setup()
urls = types.ModuleType("helpdesk_urls")
sys.modules["helpdesk_urls"] = urls
urls.urlpatterns = [
    re_path(r"^media/(?P<path>.*)$", serve, {"document_root": str(DIR / "media")}),
    path("", include("helpdesk.urls", namespace="helpdesk")),
]
from django.core.management import call_command


def initialise():
    call_command("migrate", verbosity=0)
    from django.contrib.auth.models import User
    from helpdesk.models import CustomField, Queue
    from rest_framework.authtoken.models import Token

    gateway = User.objects.create_superuser("gateway", "gateway@test.invalid", "gateway-pass")
    Queue.objects.create(title="Support", slug="support", allow_public_submission=True)
    CustomField.objects.create(name="conversation_id", label="Conversation ID", data_type="varchar", max_length=100, ordering=1)
    (DIR / "token").write_text(Token.objects.create(user=gateway).key)


KEPT.mkdir(parents=True, exist_ok=True)
with open(KEPT / "lock", "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    if not (KEPT / "token").exists():
        initialise()
        shutil.copy(DIR / "db.sqlite3", KEPT)
        shutil.copy(DIR / "token", KEPT)
shutil.copy(KEPT / "db.sqlite3", DIR)
shutil.copy(KEPT / "token", DIR)
call_command("runserver", "127.0.0.1:" + PORT, "--noreload", "--insecure")
