"""instructor in its mode TOOLS: the answer is a call of a function that the request names."""
import os
import instructor
from openai import OpenAI
from pydantic import BaseModel


class Weather(BaseModel):
    city: str
    degrees: int


client = instructor.from_openai(
    OpenAI(base_url=os.environ["BASE_URL"], api_key=os.environ["API_KEY"], max_retries=0),
    mode=instructor.Mode.TOOLS,
)
question = [{"role": "user", "content": "Weather in Oslo?"}]
ask = {"model": os.environ["MODEL"], "response_model": Weather, "messages": question}
expected = {"city": "Oslo", "degrees": 17}
whole = client.chat.completions.create(**ask, max_retries=0)
assert whole.model_dump() == expected, whole
partial = list(client.chat.completions.create_partial(**ask, max_retries=0))
assert partial[-1].model_dump() == expected, partial
