"""Pydantic AI: an agent with a tool and an output type, which is a function too, over both APIs."""
import os
from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

asked = []


class Report(BaseModel):
    city: str
    degrees: int


provider = OpenAIProvider(base_url=os.environ["BASE_URL"], api_key=os.environ["API_KEY"])
for kind in (OpenAIChatModel, OpenAIResponsesModel):
    agent = Agent(kind(os.environ["MODEL"], provider=provider), output_type=Report)

    @agent.tool_plain
    def get_weather(city: str) -> str:
        """The weather in a city."""
        asked.append(city)
        return "sunny"

    report = agent.run_sync("Weather in Oslo?").output
    assert report == Report(city="Oslo", degrees=17), report
assert asked == ["Oslo"] * 2, asked
