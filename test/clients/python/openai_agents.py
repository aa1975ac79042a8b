"""OpenAI's Agents SDK, over chat completions and over responses, whole and streamed."""
import asyncio
import os
from agents import (
    Agent,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from openai import AsyncOpenAI

asked = []
set_tracing_disabled(True)


@function_tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    asked.append(city)
    return "sunny"


async def main():
    client = AsyncOpenAI(base_url=os.environ["BASE_URL"], api_key=os.environ["API_KEY"])
    for kind in (OpenAIChatCompletionsModel, OpenAIResponsesModel):
        model = kind(model=os.environ["MODEL"], openai_client=client)
        agent = Agent(name="Weather", instructions="Be short.", model=model, tools=[get_weather])
        whole = await Runner.run(agent, "Weather in Oslo?")
        assert "sunny" in whole.final_output, whole.final_output
        streamed = Runner.run_streamed(agent, "Weather in Oslo?")
        async for _ in streamed.stream_events():
            pass
        assert "sunny" in streamed.final_output, streamed.final_output
    assert asked == ["Oslo"] * 4, asked


asyncio.run(main())
