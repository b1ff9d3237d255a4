"""The records and enums that users see, and the mapping that query methods return.

Instants are aware UTC datetimes. Records are snapshots: they do not follow later changes. They do nothing, but for
`MessageContext`, whose calls go to what the SDK has put into it.
"""

from ..kinds import HandlerContext as HandlerContext
from ..kinds import Kind as Kind
from ..states import AgentStatus as AgentStatus
from ..states import AskState as AskState
from ..states import DeliveryState as DeliveryState
from ..states import Keeping as Keeping
from ..states import MeetingEnd as MeetingEnd
from ..states import MeetingEventType as MeetingEventType
from ..states import MeetingStatus as MeetingStatus
from ..states import MessageType as MessageType
from ..states import ParticipantStatus as ParticipantStatus
from ..states import Prunable as Prunable
from ..states import SessionStatus as SessionStatus
from ..states import SessionType as SessionType
from ..states import SpeakerSelection as SpeakerSelection
from ..states import TaskState as TaskState
from ..states import TurnEnd as TurnEnd
from .base import Record as Record
from .base import T as T
from .base import T_Conversation as T_Conversation
from .base import T_Meeting as T_Meeting
from .base import T_OneWay as T_OneWay
from .contexts import Asker as Asker
from .contexts import FinalAnswer as FinalAnswer
from .contexts import MessageContext as MessageContext
from .contexts import Parts as Parts
from .contexts import Passing as Passing
from .meetings import EventData as EventData
from .meetings import Invitation as Invitation
from .meetings import Meeting as Meeting
from .meetings import MeetingEvent as MeetingEvent
from .meetings import MeetingEventPayload as MeetingEventPayload
from .meetings import MeetingParticipant as MeetingParticipant
from .meetings import MeetingStatusResponse as MeetingStatusResponse
from .meetings import Transcript as Transcript
from .meetings import Turn as Turn
from .messages import Agent as Agent
from .messages import DeadLetter as DeadLetter
from .messages import Message as Message
from .messages import Organization as Organization
from .messages import PrunedKind as PrunedKind
from .messages import PruneReport as PruneReport
from .messages import Receipt as Receipt
from .messages import ReceiptEvent as ReceiptEvent
from .messages import Session as Session
from .messages import Subscription as Subscription
