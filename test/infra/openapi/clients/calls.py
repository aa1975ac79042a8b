"""Calls an edge with the generated clients: calls.py FOLDER URL KEY. clients.ts generates them into FOLDER."""

import importlib
import pkgutil
import sys

folder, url, key = sys.argv[1:]
sys.path.insert(0, folder)


def import_all(name):
    """Imports a package with all its modules, which checks the code of every model and operation."""
    package = importlib.import_module(name)
    modules = [module.name for module in pkgutil.walk_packages(package.__path__, name + ".")]
    for module in modules:
        importlib.import_module(module)
    return len(modules)


def call_with_python_client():
    """The client of openapi-python-client."""
    from python_client import AuthenticatedClient
    from python_client.api.jobs import (
        create_job,
        delete_job,
        get_job,
        quote_job,
        stream_job_events,
    )
    from python_client.api.keys import create_api_key, delete_api_key
    from python_client.api.open_ai import create_chat_completion, list_models
    from python_client.models import ChatRequest, JobRequest, KeyRequest, ProblemBody, Steering

    client = AuthenticatedClient(base_url=url, token=key, timeout=90)
    model = list_models.sync(client=client).data[0].id
    body = JobRequest(model=model, prompt="Hello", max_tokens=4, steering=Steering(alpha=0.5))
    assert quote_job.sync(client=client, body=body).max_tokens == 4
    job = create_job.sync(client=client, body=body, prefer="wait=60")
    assert job.state == "succeeded", job
    assert get_job.sync(client=client, id=job.id).output.text == job.output.text
    assert "event: succeeded" in stream_job_events.sync(client=client, id=job.id)
    assert delete_job.sync(client=client, id=job.id).deleted is True
    chat = ChatRequest.from_dict(
        {"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
    )
    answer = create_chat_completion.sync(client=client, body=chat)
    assert answer.choices[0].message.role == "assistant", answer
    made = create_api_key.sync(client=client, body=KeyRequest(name="client"))
    assert delete_api_key.sync(client=client, id=made.id).deleted is True
    missing = get_job.sync(client=client, id="job_missing")
    assert isinstance(missing, ProblemBody) and missing.error.code == "not_found", missing


def call_with_generator_client():
    """The client of openapi-generator."""
    import generator_client as api
    from generator_client import models

    configuration = api.Configuration(host=url, access_token=key)
    with api.ApiClient(configuration) as client:
        model = api.OpenAIApi(client).list_models().data[0].id
        jobs = api.JobsApi(client)
        request = models.JobRequest(
            model=model,
            prompt=models.Prompt("Hello"),
            max_tokens=4,
            steering=models.Steering(alpha=0.5),
        )
        body = models.CreateJobRequest(request)
        job = jobs.create_job(body, prefer="wait=60")
        assert job.state == "succeeded", job
        assert jobs.get_job(job.id).output.text == job.output.text
        assert "event: succeeded" in jobs.stream_job_events(job.id)
        assert jobs.delete_job(job.id).deleted is True
        keys = api.KeysApi(client)
        made = keys.create_api_key(models.KeyRequest(name="client"))
        assert keys.delete_api_key(made.id).deleted is True
        try:
            jobs.get_job("job_missing")
        except api.exceptions.NotFoundException as error:
            assert '"not_found"' in error.body
        else:
            raise AssertionError("a job that does not exist was found")


for name, call in (
    ("python_client", call_with_python_client),
    ("generator_client", call_with_generator_client),
):
    print(f"{name}: {import_all(name)} modules imported")
    call()
    print(f"{name}: calls answered")
