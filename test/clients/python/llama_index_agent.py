"""LlamaIndex: an agent that calls functions."""
import asyncio
import os
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.llms.openai_like import OpenAILike

asked = []


def get_weather(city: str) -> str:
    """The weather in a city."""
    asked.append(city)
    return "sunny"


async def main():
    llm = OpenAILike(
        model=os.environ["MODEL"],
        api_base=os.environ["BASE_URL"],
        api_key=os.environ["API_KEY"],
        is_chat_model=True,
        is_function_calling_model=True,
        max_retries=0,
    )
    agent = FunctionAgent(tools=[get_weather], llm=llm)
    answer = str(await agent.run("Weather in Oslo?"))
    assert "sunny" in answer, answer
    assert asked == ["Oslo"], asked


asyncio.run(main())
