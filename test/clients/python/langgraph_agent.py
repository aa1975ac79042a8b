"""LangGraph's prebuilt react agent, over chat completions and over responses, whole and streamed."""
import os
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.prebuilt import create_react_agent

asked = []


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    asked.append(city)
    return "sunny"


for responses in (False, True):
    model = ChatOpenAI(
        model=os.environ["MODEL"],
        base_url=os.environ["BASE_URL"],
        api_key=os.environ["API_KEY"],
        max_retries=0,
        use_responses_api=responses,
    )
    agent = create_react_agent(model, [get_weather])
    question = {"messages": [("user", "Weather in Oslo?")]}
    answer = agent.invoke(question)["messages"][-1]
    assert "sunny" in answer.text() if callable(answer.text) else "sunny" in answer.text, answer
    streamed = list(agent.stream(question, stream_mode="messages"))
    assert any(getattr(chunk, "tool_call_chunks", None) for chunk, _ in streamed), "no chunks of calls"
assert asked == ["Oslo"] * 4, asked
