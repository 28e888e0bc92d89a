# SPDX-License-Identifier: MIT
import asyncio

level = 0


async def consumer(name, cond, need):
    async with cond:
        await cond.wait_for(lambda: level >= need)
        print(f"{name}: the level is {level}")


async def producer(cond):
    global level
    for _ in range(3):
        async with cond:
            level += 1
            print("filled to", level)
            cond.notify_all()
        await asyncio.sleep(0.001)


async def main():
    cond = asyncio.Condition()
    await asyncio.gather(consumer("low", cond, 1), consumer("high", cond, 3), producer(cond))


asyncio.run(main())
