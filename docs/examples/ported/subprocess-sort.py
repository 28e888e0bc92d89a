# SPDX-License-Identifier: MIT
import asyncio
from asyncio.subprocess import PIPE


async def main():
    process = await asyncio.create_subprocess_exec("sort", "-r", stdin=PIPE, stdout=PIPE)
    out, _ = await process.communicate(b"anna\ncarl\nbert\n")
    print(out.decode(), end="")
    print("returncode:", process.returncode)

    process = await asyncio.create_subprocess_exec("sleep", "3600")
    process.terminate()
    print("returncode:", await process.wait())


asyncio.run(main())
