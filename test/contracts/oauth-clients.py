"""Two OAuth clients of Debian log in by password, let their token expire, and refresh by themselves."""
import json
import os
import sys

os.environ['OAUTHLIB_INSECURE_TRANSPORT'] = '1'
base, username, password = sys.argv[1:4]
token_url, me_url = f'{base}/oauth/token', f'{base}/api/v1/me'


def requests_oauthlib():
    from oauthlib.oauth2 import LegacyApplicationClient
    from requests_oauthlib import OAuth2Session
    saved = []
    session = OAuth2Session(
        client=LegacyApplicationClient(client_id='app'),
        auto_refresh_url=token_url,
        auto_refresh_kwargs={'client_id': 'app'},
        token_updater=saved.append,
    )
    first = dict(session.fetch_token(token_url, username=username, password=password))
    session.token = {**first, 'expires_in': -1, 'expires_at': 1}
    me = session.get(me_url).json()
    return me['email'], saved[0]['refresh_token'] != first['refresh_token']


def authlib():
    from authlib.integrations.requests_client import OAuth2Session
    saved = []
    session = OAuth2Session(
        client_id='app', token_endpoint=token_url, token_endpoint_auth_method='none',
        update_token=lambda token, **_: saved.append(token),
    )
    first = dict(session.fetch_token(token_url, username=username, password=password, grant_type='password'))
    session.token = {**first, 'expires_at': 1}
    me = session.get(me_url).json()
    return me['email'], saved[0]['refresh_token'] != first['refresh_token']


print(json.dumps({judge.__name__: judge() for judge in (requests_oauthlib, authlib)}))
