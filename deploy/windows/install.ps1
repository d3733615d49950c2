<#
.SYNOPSIS
Installs fim as a Windows service, or upgrades it.

.DESCRIPTION
Run it from the unpacked zip, in an elevated PowerShell (5.1 or later):

    powershell -ExecutionPolicy Bypass -File .\install.ps1

It checks the files against SHA256SUMS, copies the program below Program Files, makes the data
directory for administrators and the system alone, puts the default policy there if there is no
configuration yet, checks the configuration, and installs and starts the service `fim`.

An upgrade is the same: configuration, baseline and journal are kept, and if the new version does
not start, the old one is put back and started.

.PARAMETER InstallDir
Where the program goes.

.PARAMETER DataDir
Where configuration, baseline and journal lie.

.PARAMETER NoStart
Install the service, and leave it stopped. It starts with the system.
#>
#Requires -Version 5.1
[CmdletBinding()]
param(
    [string]$InstallDir = (Join-Path $env:ProgramFiles 'fim'),
    [string]$DataDir = (Join-Path $env:ProgramData 'fim'),
    [switch]$NoStart
)

$ErrorActionPreference = 'Stop'
Set-StrictMode -Version 2.0

$program = 'fim-windows-etw.exe'
$files = @($program, 'uninstall.ps1', 'fim.toml', 'README.txt', 'SHA256SUMS')

function Test-Administrator {
    $identity = [Security.Principal.WindowsIdentity]::GetCurrent()
    $principal = New-Object Security.Principal.WindowsPrincipal($identity)
    return $principal.IsInRole([Security.Principal.WindowsBuiltInRole]::Administrator)
}

# Runs a program; what it says goes to the console, and an exit code that is not 0 ends the script.
function Invoke-Program([string]$Path, [string[]]$Words) {
    & $Path @Words | Out-Host
    if ($LASTEXITCODE -ne 0) {
        throw "$(Split-Path -Leaf $Path) $($Words -join ' '): exit code $LASTEXITCODE"
    }
}

# Each file of the zip is what SHA256SUMS says, and each is in it.
function Test-Checksums([string]$Directory) {
    $named = @{}
    foreach ($line in Get-Content -LiteralPath (Join-Path $Directory 'SHA256SUMS')) {
        if ($line -notmatch '^([0-9a-f]{64})  (\S+)$') { throw "SHA256SUMS: not understood: $line" }
        $named[$Matches[2]] = $Matches[1]
    }
    foreach ($name in $files) {
        if ($name -eq 'SHA256SUMS') { continue }
        if (-not $named.ContainsKey($name)) { throw "SHA256SUMS does not have $name" }
        $hash = (Get-FileHash -Algorithm SHA256 -LiteralPath (Join-Path $Directory $name)).Hash
        if ($hash -ne $named[$name]) { throw "$name is not the file that was packed: unpack the zip again" }
    }
}

# Administrators and the system alone; what is made in it inherits that.
function New-ClosedDirectory([string]$Directory) {
    if (Test-Path -LiteralPath $Directory -PathType Container) { return }
    New-Item -ItemType Directory -Path $Directory | Out-Null
    Invoke-Program 'icacls.exe' @(
        $Directory, '/inheritance:r', '/grant:r', '*S-1-5-18:(OI)(CI)F', '*S-1-5-32-544:(OI)(CI)F', '/q'
    )
}

if (-not (Test-Administrator)) {
    throw 'This installs a service: run it in an elevated PowerShell (Run as administrator).'
}
if (-not [Environment]::Is64BitOperatingSystem) { throw 'fim is for 64-bit Windows.' }

$source = $PSScriptRoot
Test-Checksums $source

$installed = Join-Path $InstallDir $program
$previous = "$installed.previous"
$configuration = Join-Path $DataDir 'fim.toml'
$service = Get-Service -Name 'fim' -ErrorAction SilentlyContinue
$wasRunning = $null -ne $service -and $service.Status -ne 'Stopped'

New-ClosedDirectory $DataDir
if (-not (Test-Path -LiteralPath $configuration)) {
    Copy-Item -LiteralPath (Join-Path $source 'fim.toml') -Destination $configuration
    Write-Host "default policy: $configuration"
}
# With the new program, before anything is replaced.
Invoke-Program (Join-Path $source $program) @('policy', 'check', '--config', $configuration)

if ($null -ne $service) {
    # Its own word for it waits until what it knows is written.
    if ($wasRunning) { Invoke-Program $installed @('service', 'stop') }
}
New-Item -ItemType Directory -Path $InstallDir -Force | Out-Null
if (Test-Path -LiteralPath $installed) {
    Move-Item -LiteralPath $installed -Destination $previous -Force
}
try {
    foreach ($name in $files) {
        Copy-Item -LiteralPath (Join-Path $source $name) -Destination (Join-Path $InstallDir $name) -Force
    }
    Invoke-Program $installed @('service', 'install', '--config', $configuration, '--state-dir', $DataDir)
    if (-not $NoStart) { Invoke-Program $installed @('service', 'start') }
}
catch {
    Write-Warning "the new version is not installed: $($_.Exception.Message)"
    if (Test-Path -LiteralPath $previous) {
        Move-Item -LiteralPath $previous -Destination $installed -Force
        Invoke-Program $installed @('service', 'install', '--config', $configuration, '--state-dir', $DataDir)
        if ($wasRunning) { Invoke-Program $installed @('service', 'start') }
        Write-Warning 'the version before is back in place'
    }
    throw
}
if (Test-Path -LiteralPath $previous) { Remove-Item -LiteralPath $previous -Force }
Write-Host "installed: $installed"
