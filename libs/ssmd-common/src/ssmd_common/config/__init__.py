"""Configuration: YAML files become validated, frozen models, or one clear error.

:mod:`.loading` reads the three kinds of files; :mod:`.feed` (with :mod:`.websocket`), :mod:`.environment` and
:mod:`.archiver` say what may stand in them; :mod:`.support` decides what of it a connector does;
:mod:`.credentials` fetches secrets from where the files say they lie.
"""
