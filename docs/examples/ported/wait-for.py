# SPDX-License-Identifier: MIT
import asyncio


async def eternity():
    try:
        await asyncio.sleep(3600)
    finally:
        print("eternity ends early")
    print("yay!")


async def main():
    try:
        await asyncio.wait_for(eternity(), timeout=0.01)
    except asyncio.TimeoutError:
        print("timeout!")


asyncio.run(main())
