# SPDX-License-Identifier: MIT
import asyncio
import contextvars

client_addr_var = contextvars.ContextVar("client_addr", default="nobody")


def render_goodbye():
    return f"Good bye, client @ {client_addr_var.get()}"


async def handle_request(address):
    client_addr_var.set(address)
    await asyncio.sleep(0)
    print(render_goodbye())


def changes():
    client_addr_var.set("198.51.100.1")
    print("inside:", client_addr_var.get())


async def main():
    await asyncio.gather(handle_request("192.0.2.1"), handle_request("192.0.2.2"))
    print("main:", client_addr_var.get())

    token = client_addr_var.set("203.0.113.9")
    print("set:", client_addr_var.get())
    client_addr_var.reset(token)
    print("reset:", client_addr_var.get())
    try:
        client_addr_var.reset(token)
    except RuntimeError:
        print("a token is good for one reset")

    ctx = contextvars.copy_context()
    ctx.run(changes)
    print("outside:", client_addr_var.get())
    print("in the context:", ctx[client_addr_var])


asyncio.run(main())
