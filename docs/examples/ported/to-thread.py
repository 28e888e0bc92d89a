# SPDX-License-Identifier: MIT
import asyncio
import contextvars
import threading

request_var = contextvars.ContextVar("request")
main_thread = threading.get_ident()


def blocking_io(number):
    in_thread = threading.get_ident() != main_thread
    return number * 2, in_thread, request_var.get("none")


async def main():
    request_var.set("42")
    doubled, in_thread, request = await asyncio.to_thread(blocking_io, 21)
    print("to_thread:", doubled, "in a thread:", in_thread, "request:", request)

    loop = asyncio.get_running_loop()
    doubled, in_thread, request = await loop.run_in_executor(None, blocking_io, 4)
    print("run_in_executor:", doubled, "in a thread:", in_thread, "request:", request)


asyncio.run(main())
