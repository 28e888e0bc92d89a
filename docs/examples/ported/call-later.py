# SPDX-License-Identifier: MIT
import asyncio


def tick(loop, n, end):
    print("tick", n)
    if n < 3:
        loop.call_later(0.001, tick, loop, n + 1, end)
    else:
        end.set()


async def main():
    loop = asyncio.get_running_loop()
    end = asyncio.Event()
    never = loop.call_later(0.001, print, "never")
    never.cancel()
    loop.call_soon(tick, loop, 1, end)
    print("main goes first")
    await end.wait()
    print("cancelled:", never.cancelled())


asyncio.run(main())
