# SPDX-License-Identifier: MIT
import asyncio


async def long_running():
    await asyncio.sleep(3600)


async def main():
    try:
        async with asyncio.timeout(0.01):
            await long_running()
    except TimeoutError:
        print("The long operation timed out, but we have handled it.")

    async with asyncio.timeout(None) as cm:
        cm.reschedule(asyncio.get_running_loop().time() + 60)
        await asyncio.sleep(0)
    print("expired:", cm.expired())

    try:
        async with asyncio.timeout(60) as outer:
            async with asyncio.timeout(0.01) as inner:
                await long_running()
    except TimeoutError:
        print("outer:", outer.expired(), "inner:", inner.expired())


asyncio.run(main())
