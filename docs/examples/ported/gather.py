# SPDX-License-Identifier: MIT
import asyncio


async def factorial(name, number):
    f = 1
    for i in range(2, number + 1):
        print(f"Task {name}: factorial({number}), now i={i}")
        await asyncio.sleep(0)
        f *= i
    print(f"Task {name}: factorial({number}) = {f}")
    return f


async def fails():
    raise OSError("no luck")


async def main():
    print("results:", *await asyncio.gather(factorial("A", 2), factorial("B", 3), factorial("C", 4)))

    try:
        await asyncio.gather(factorial("D", 2), fails())
    except OSError:
        print("one has failed")

    result, error = await asyncio.gather(factorial("E", 1), fails(), return_exceptions=True)
    print("results:", result, "and an error" if isinstance(error, OSError) else error)


asyncio.run(main())
